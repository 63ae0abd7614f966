"""The command service: rules, the running of programs, and the process that spawns them."""
