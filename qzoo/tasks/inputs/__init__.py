"""What tasks are given: batches of any form, samples of a dataset, batches that are kept to be gone through again."""
