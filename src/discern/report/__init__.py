"""Pictures and pages that show what a Run or several are worth."""
