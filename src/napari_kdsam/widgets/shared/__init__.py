"""What several docks stand on."""
