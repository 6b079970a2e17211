"""Reports: values of the store in, a folder with one HTML file and its exports out."""
