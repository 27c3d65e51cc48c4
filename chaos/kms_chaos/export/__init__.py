"""What a drill says to others: one account of it, and the forms that account takes. Values in, text out."""
