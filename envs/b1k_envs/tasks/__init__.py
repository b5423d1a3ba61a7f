"""Activities as data: the table, the BDDL problem, goals and sub-goals."""
