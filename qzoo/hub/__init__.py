"""The Hugging Face hub: what a folder or repository of a hub model holds, and how it travels."""
