"""The numerical core: curves with a minimum, power laws and the bootstrap. It knows no paper, no file and no pandas."""
