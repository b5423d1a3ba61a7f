"""Task 31: a utility room with a washer and two dusty boxing gloves."""
