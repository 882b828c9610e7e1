"""Screen records before they are compared or split: secrets, personal data, quality, language, licences."""
