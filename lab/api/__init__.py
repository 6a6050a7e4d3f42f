"""EC2 as its API shows it: moto, and what moto lacks or answers differently."""
