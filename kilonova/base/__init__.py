"""The toolbox everything else may use; standard library only."""
