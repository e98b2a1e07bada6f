"""The head that proposes boxes without a prompt: stage 3, on the frozen encoder."""
