"""python -m eval FILE.h5: the command of eval/command.py."""

from eval.command import main

if __name__ == "__main__":
    main()
