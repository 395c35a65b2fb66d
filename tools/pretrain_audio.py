"""Train the small audio encoder on sound classes; see transavs/tools/pretrain_audio.py."""

from transavs.tools.pretrain_audio import main

if __name__ == "__main__":
    raise SystemExit(main())
