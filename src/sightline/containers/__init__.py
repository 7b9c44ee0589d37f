"""What runs inside SageMaker's containers: `/opt/ml` in, Sightline's own commands, `/opt/ml` out. No torch.

opt_ml           the folder and its three JSON files          hosts     who trains with whom, and how processes find each other
hyperparameters  texts -> options and Detectron2's keys       together  processes started, heard, stopped and buried
channels         folders of data -> one data set with parts   failures  what an ended process had to say, in 1,024 letters
train, serve     the two entry points                         local     the same, in a folder on this machine
"""
