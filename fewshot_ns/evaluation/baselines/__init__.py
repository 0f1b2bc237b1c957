"""What a method has to beat: the nearest photo, the mean colour, a plane sweep."""
