"""An explanation for people: reasons in words, records on disk, pictures."""
