"""Train or evaluate TransAVS; see transavs/tools/train_net.py."""

from transavs.tools.train_net import main

if __name__ == "__main__":
    raise SystemExit(main())
