"""Screen what was read before anything is compared or split: secrets, personal data, quality, language, licences."""
