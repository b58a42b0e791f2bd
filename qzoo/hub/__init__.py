"""The Hugging Face hub: what a folder or repository of a published model holds, and how it travels."""
