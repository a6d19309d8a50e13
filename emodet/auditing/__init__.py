"""What is wrong with a data set: copies, doubtful labels, classes in the wrong order, pictures that show nothing."""
