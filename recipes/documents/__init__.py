"""Documents as rows: files, clean text, chunks, rows for training. Started by documents-to-dataset.sh."""
