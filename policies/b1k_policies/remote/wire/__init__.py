"""The messages between an evaluator and a policy server; see `messages`."""
