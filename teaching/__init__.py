"""Labs for a class: exercises, each student's own values, hand-outs, grading, the way in."""
