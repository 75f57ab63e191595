"""CAPTCHAs drawn at random, with the characters at their places as labels."""
