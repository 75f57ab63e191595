"""Weights of files and of ImageNet, matched with a model's layers."""
