"""What is wrong, and why: looks at regions, keys and policies, and decides what explains what was seen."""
