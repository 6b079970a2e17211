"""What an encoder is, and which encoders a search may choose from."""
