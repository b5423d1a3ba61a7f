"""What does a policy use, and how much can it take? A study of disturbed runs."""
