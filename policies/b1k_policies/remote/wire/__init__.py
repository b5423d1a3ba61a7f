"""What goes over the wire between an evaluator and a policy server; see `messages`."""
