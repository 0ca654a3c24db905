"""Where a plan runs: each engine renders it to its own request, submits it, follows and stops it."""
