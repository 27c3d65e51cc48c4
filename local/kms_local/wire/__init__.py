"""What every local AWS service shares: TLS listeners, HTTP values, signatures, and the two wire protocols."""
