"""Chat templates: the tokenizer's own, or one of these by its name when it has none.

A template turns a dialogue into the text that the model sees; it is saved with the tokenizer, so whoever asks
the tuned model uses the same.
"""

from typing import Any

from llm import answers

_HEAD, _BREAK = "'<|start_header_id|>'", "'<|end_header_id|>\\n\\n'"

#: Name -> the template, and the token that ends an answer (empty: the tokenizer's own end of text).
NAMED: dict[str, tuple[str, str]] = {
    # OpenAI's ChatML, as Qwen and many others have it
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        "<|im_end|>",
    ),
    # Meta's format of Llama 3, without its tools
    "llama-3": (
        "{{ bos_token }}{% for message in messages %}"
        f"{{{{ {_HEAD} + message['role'] + {_BREAK} + message['content'] + '<|eot_id|>' }}}}"
        "{% endfor %}{% if add_generation_prompt %}"
        f"{{{{ {_HEAD} + 'assistant' + {_BREAK} }}}}"
        "{% endif %}",
        "<|eot_id|>",
    ),
    # Stanford Alpaca's headings: no token of its own, so it suits every base model
    "alpaca": (
        "{{ bos_token if bos_token else '' }}{% for message in messages %}"
        "{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ '### Response:\\n' + message['content'] + eos_token + '\\n\\n' }}"
        "{% else %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}",
        "",
    ),
}


def give(tokenizer: Any, name: str) -> None:
    """Let a tokenizer have a named template, and end its texts as that template ends an answer.

    Args:
        tokenizer: of transformers; changed.
        name: one of :data:`NAMED`; empty: the tokenizer keeps its own, if it has one.

    Raises:
        SystemExit: an unknown name, or the tokenizer has no token for the template's end of an answer: cut
            into pieces it would be no end that a program can wait for.
    """
    if not name:
        return
    if name not in NAMED:
        raise SystemExit(f"there is no chat template {name}; there are: {', '.join(NAMED)}")
    template, end = NAMED[name]
    if end:
        if end not in tokenizer.get_vocab():
            raise SystemExit(
                f"chat_template {name}: the tokenizer has no token {end}, which ends an answer;"
                " alpaca needs none"
            )
        tokenizer.eos_token = end
    tokenizer.chat_template = template


def close(tokenizer: Any) -> None:
    """Let a tokenizer end its texts as its own template ends an answer, so that everybody stops there.

    Base models such as Qwen's have a template that ends answers by one token, and an end of text that is
    another: the answer's would be learned, and nobody would wait for it.
    """
    number = answers.end(tokenizer)
    if number is not None and number != tokenizer.eos_token_id:
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(number)
        print(f"answers end by {tokenizer.eos_token}, as the chat template has it", flush=True)


def needed(tokenizer: Any) -> None:
    """Refuse a tokenizer without a template.

    Raises:
        SystemExit: dialogues cannot be written down for this model.
    """
    if not tokenizer.chat_template:
        raise SystemExit(
            "the tokenizer has no chat template, as those of base models: choose one by --chat-template"
            f" ({', '.join(NAMED)}), or train on plain text"
        )
