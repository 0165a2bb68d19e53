"""The paper's tables and figures from all runs of a folder: one page, and files to each figure."""
