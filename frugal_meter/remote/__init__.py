"""Models that run elsewhere: calls to them, what their replies tell, and what they cost there."""
