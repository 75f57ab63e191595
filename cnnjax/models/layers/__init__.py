"""What is known of a model's layers, and changes of them."""
