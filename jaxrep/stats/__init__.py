"""What chance gives, and how sure a number is."""
