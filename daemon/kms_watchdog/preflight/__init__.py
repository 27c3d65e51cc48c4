"""What the references could not verify, asked of a real account: with throw-away keys, which go again by their tag."""
