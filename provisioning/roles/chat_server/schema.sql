-- The repository of the chat: who may sign in, and every message that was posted here.
CREATE DATABASE IF NOT EXISTS imlab_chat CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci;
USE imlab_chat;

CREATE TABLE IF NOT EXISTS accounts (
    name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
    password_hash VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL
) ENGINE = InnoDB;

-- nonce is the form's own number: a form sent twice is one message.
CREATE TABLE IF NOT EXISTS messages (
    id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    sender VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    content TEXT NOT NULL,
    posted DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
    nonce BINARY(16) NOT NULL,
    UNIQUE KEY nonce (nonce),
    KEY sender (sender, id)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS provisioned (
    name VARCHAR(32) NOT NULL PRIMARY KEY,
    value VARCHAR(255) NOT NULL
) ENGINE = InnoDB;

-- The web server's processes are known by their user id: there is no password to lose.
CREATE USER IF NOT EXISTS 'www-data'@'localhost' IDENTIFIED VIA unix_socket;
GRANT SELECT ON imlab_chat.accounts TO 'www-data'@'localhost';
GRANT SELECT, INSERT ON imlab_chat.messages TO 'www-data'@'localhost';
