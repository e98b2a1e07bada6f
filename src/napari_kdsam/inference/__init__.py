"""From image arrays and prompts to masks; knows no file and no viewer."""
