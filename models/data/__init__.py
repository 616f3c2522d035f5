"""Data staging: from crawled image-caption pairs to the sets that the students are trained on."""
