"""Language models: what the recipes ``llm-*.sh`` run inside a container or an environment."""
