"""The dock that walks through a folder of images."""
