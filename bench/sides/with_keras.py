"""Keras' side: system D's two phases; every photo is decoded once and kept in memory, as Keras' guide has it.

python with_keras.py PHOTOS FROZEN TUNED ANSWER     FROZEN and TUNED are the epochs of the two phases
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # TensorFlow greets

import keras
import tensorflow as tf

SIDE, BATCH, SEED = 224, 16, 0

OPEN = 20
"""Layers at the end of the base that the second phase trains."""


class Clock(keras.callbacks.Callback):
    """Seconds of each epoch, validation included."""

    def __init__(self):
        super().__init__()
        self.seconds = []

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self.began)


def photos_of(folder, **split):
    """Photos and labels in batches."""
    return keras.utils.image_dataset_from_directory(
        folder, image_size=(SIDE, SIDE), batch_size=BATCH, verbose=False, **split
    )


def network(classes):
    """The base, and the whole with augmentation in front."""
    layers = keras.layers
    base = keras.applications.EfficientNetV2B0(
        include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), include_preprocessing=False
    )
    images = keras.Input((SIDE, SIDE, 3))
    varied = layers.RandomZoom(0.1)(layers.RandomRotation(0.15)(layers.RandomFlip("horizontal")(images)))
    varied = layers.Rescaling(1 / 127.5, -1)(layers.RandomTranslation(0.1, 0.1)(varied))
    maps = base(varied, training=False)  # batch norms keep their statistics in both phases
    hidden = layers.Dense(128, activation="relu")(layers.GlobalAveragePooling2D()(maps))
    return base, keras.Model(images, layers.Dense(classes, activation="softmax")(layers.Dropout(0.3)(hidden)))


def fitted(model, rate, epochs, train, val):
    """Seconds of each epoch, and how many numbers were trained."""
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    clock = Clock()
    model.fit(train, validation_data=val, epochs=epochs, callbacks=[clock], verbose=0)
    return {"epochs": clock.seconds, "trained": sum(int(tf.size(each)) for each in model.trainable_weights)}


def main(photos, frozen, tuned):
    """Both phases, and the score."""
    keras.utils.set_random_seed(SEED)
    parts = {"validation_split": 0.2, "seed": SEED}
    train = photos_of(f"{photos}/train", subset="training", **parts)
    val = photos_of(f"{photos}/train", subset="validation", **parts)
    test = photos_of(f"{photos}/test", shuffle=False)
    images = {name: len(each.file_paths) for name, each in (("train", train), ("val", val), ("test", test))}
    base, model = network(len(train.class_names))
    train, val = train.cache().prefetch(tf.data.AUTOTUNE), val.cache().prefetch(tf.data.AUTOTUNE)
    base.trainable = False
    phases = [fitted(model, 1e-3, frozen, train, val)]
    base.trainable = True
    for layer in base.layers[:-OPEN]:
        layer.trainable = False
    phases.append(fitted(model, 1e-5, tuned, train, val))
    return {
        "images": images,
        "numbers": model.count_params(),
        "phases": phases,
        "accuracy": model.evaluate(test, verbose=0)[1],
    }


if __name__ == "__main__":
    Path(sys.argv[4]).write_text(json.dumps(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
