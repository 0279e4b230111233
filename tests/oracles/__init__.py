"""What is right, from elsewhere: figures of papers, other libraries' networks, names and file formats."""
