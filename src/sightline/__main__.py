"""`python -m sightline`, which is also how torchrun starts it: `torchrun --nproc-per-node 4 -m sightline train ...`."""

from sightline.cli.main import main

if __name__ == "__main__":
    main()
