"""How commands are declared: their options, what they print, and what has to be installed for them."""
