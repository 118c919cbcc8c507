"""Keras' side of CIFAR-10 from scratch: images in memory after the first epoch, augmentation in the network, its Adam.

    python with_keras_scratch.py FOLDER SEED EPOCHS GOAL ANSWER

The net is that of reference system A.
"""

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # TensorFlow greets

import keras
import scratch
import tensorflow as tf

SIDE, BATCH = 32, 64


class Notes(keras.callbacks.Callback):
    """Keeps the diary."""

    def __init__(self, diary, test):
        super().__init__()
        self.diary, self.test = diary, test

    def on_epoch_end(self, epoch, logs=None):
        """Stop when it is enough."""
        test = lambda: self.model.evaluate(self.test, verbose=0)[1]  # noqa: E731
        self.model.stop_training = self.diary.add(logs["val_accuracy"], test)


def network():
    """System A's regularised net, with its augmentation in front."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.125, 0.125, fill_mode="constant"),
            layers.Rescaling(1 / 255),
            *(layers.Conv2D(32, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()),
            *(layers.Conv2D(64, 3, padding="same"), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D()),
            *(layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dropout(0.5)),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main(folder, seed, epochs, diary):
    """Train, and look at validation after every epoch."""
    keras.utils.set_random_seed(seed)
    train, val, test = (
        keras.utils.image_dataset_from_directory(
            folder / split, image_size=(SIDE, SIDE), batch_size=BATCH, shuffle=split == "train", verbose=False
        )
        for split in ("train", "val", "test")
    )
    train = train.cache().shuffle(1000).prefetch(tf.data.AUTOTUNE)
    val, test = val.cache().prefetch(tf.data.AUTOTUNE), test.cache().prefetch(tf.data.AUTOTUNE)
    model = network()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train, validation_data=val, epochs=epochs, callbacks=[Notes(diary, test)], verbose=0)


if __name__ == "__main__":
    scratch.run(main)
