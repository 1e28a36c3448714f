"""Files and folders, local and in object stores."""
