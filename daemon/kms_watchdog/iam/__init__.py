"""Who may do what in the account: the estate's roles as they should be, and what is wrong with those there are."""
