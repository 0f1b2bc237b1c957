"""Reading and finding the files of scenes."""
