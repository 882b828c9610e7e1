"""Secrets and personal data in texts: rules that find them, the masked form that may be shown, and their redaction."""
