"""Zero code: `trubrics-instrument run`, in processes of its own."""
