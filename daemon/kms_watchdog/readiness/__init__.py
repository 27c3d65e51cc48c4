"""Whether all is ready for production, and stays so: the setup guide's checklist, its regular tasks, measured speed."""
