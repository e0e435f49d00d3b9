<?php
// What all pages share: the session, the repository, and how a page or an error looks.
declare(strict_types=1);

const MAX_CHARACTERS = 2000;
const PAGE_ROWS = 200;

/** An error that the user can do something about; the code is the HTTP status. */
final class Refusal extends RuntimeException
{
}

/** The repository cannot be reached or did not take something. */
final class Unavailable extends RuntimeException
{
}

/** Accounts and messages in MariaDB. */
final class Repository
{
    private ?PDO $pdo = null;

    /** @param list<mixed> $values */
    private function run(string $sql, array $values = []): PDOStatement
    {
        $this->pdo ??= new PDO(
            'mysql:unix_socket=/run/mysqld/mysqld.sock;dbname=imlab_chat;charset=utf8mb4',
            'www-data',
            '',
            [
                PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
                PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
                PDO::ATTR_EMULATE_PREPARES => false,
                PDO::ATTR_TIMEOUT => 5,
            ],
        );
        $statement = $this->pdo->prepare($sql);
        $statement->execute($values);
        return $statement;
    }

    public function verify(string $name, string $password): bool
    {
        // A hash of nothing in particular: an unknown name takes as long as a known one.
        $unknown = '$2y$10$usesomesillystringforeQ8PfH1jT0sVqmZtFf3r3aPoWnTzvHqe2';
        $row = $this->run('SELECT password_hash FROM accounts WHERE name = ?', [$name])->fetch();
        $valid = password_verify($password, $row === false ? $unknown : $row['password_hash']);
        return $valid && $row !== false;
    }

    /** Store a message and return its number; the same nonce again is the same message. */
    public function store(string $sender, string $content, string $nonce): int
    {
        try {
            $this->run(
                'INSERT INTO messages (sender, content, posted, nonce) VALUES (?, ?, ?, ?)',
                [$sender, $content, gmdate('Y-m-d H:i:s'), $nonce],
            );
            return (int) $this->pdo->lastInsertId();
        } catch (PDOException $error) {
            if (($error->errorInfo[1] ?? 0) !== 1062) {
                throw $error;
            }
        }
        $row = $this->run(
            'SELECT id FROM messages WHERE nonce = ? AND sender = ? AND content = ?',
            [$nonce, $sender, $content],
        )->fetch();
        if ($row === false) {
            throw new Refusal('This form has already been used for another chat. Open it again.', 409);
        }
        return (int) $row['id'];
    }

    /** @return array{id: int, sender: string, content: string, posted: string}|null */
    public function message(int $id, string $sender): ?array
    {
        $sql = 'SELECT id, sender, content, posted FROM messages WHERE id = ? AND sender = ?';
        return $this->run($sql, [$id, $sender])->fetch() ?: null;
    }

    /**
     * The last messages before a number, oldest first.
     *
     * @return list<array{id: int, sender: string, content: string, posted: string}>
     */
    public function messages(string $account, bool $own, int $before): array
    {
        $sql = 'SELECT id, sender, content, posted FROM messages WHERE sender '
            . ($own ? '=' : '<>') . ' ? AND id < ? ORDER BY id DESC LIMIT ' . PAGE_ROWS;
        return array_reverse($this->run($sql, [$account, $before])->fetchAll());
    }

    public function ping(): void
    {
        $this->run('SELECT 1 FROM accounts LIMIT 1')->fetchAll();
    }
}

/** Text as it stands in HTML. */
function e(string|int $text): string
{
    return htmlspecialchars((string) $text, ENT_QUOTES | ENT_SUBSTITUTE | ENT_HTML5, 'UTF-8');
}

/** Send a page. $body is HTML. */
function page(string $title, string $body, int $status = 200): never
{
    http_response_code($status);
    header('Content-Type: text/html; charset=utf-8');
    header("Content-Security-Policy: default-src 'none'; style-src 'self'; img-src 'self';"
        . " form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    header('Cache-Control: no-store');
    $html = "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        . "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        . '<title>' . e($title) . "</title>\n"
        . "<link rel=\"icon\" href=\"/assets/chat.svg\">\n"
        . "<link rel=\"stylesheet\" href=\"/assets/chat.css\">\n</head>\n<body>\n<main>\n"
        . '<h1>' . e($title) . "</h1>\n$body\n</main>\n</body>\n</html>\n";
    header('Content-Length: ' . strlen($html));
    echo $html;
    exit;
}

/** Send the browser on to another page of this folder. */
function go(string $place): never
{
    header("Location: $place", true, 303);
    header('Content-Length: 0');
    exit;
}

/** The home page of the machine that asks: there the user's three links are. */
function home(): string
{
    $address = $_SERVER['REMOTE_ADDR'];
    if ($address === '127.0.0.1' || $address === '::1') {
        return '/client/Home.php';
    }
    return 'http://' . (str_contains($address, ':') ? "[$address]" : $address) . '/client/home.php';
}

/** The links below every page of a signed-in user. */
function footer(): string
{
    $home = e(home());
    $links = "<a href=\"$home\">Home</a>";
    if (isset($_SESSION['account'])) {
        $links .= '<a href="Post.php">Post Chat</a><a href="Incoming.php">View Incoming Chat</a>'
            . '<a href="Outgoing.php">View Outgoing Chat</a>'
            . '<form method="post" action="SignOut.php">' . token()
            . '<button class="link">Sign out ' . e($_SESSION['account']) . '</button></form>';
    }
    return "<nav>$links</nav>";
}

function open_session(): void
{
    if (!session_start()) {
        throw new Unavailable('sessions cannot be kept');
    }
    $_SESSION['token'] ??= bin2hex(random_bytes(16));
}

/** The hidden field that only a form of ours can carry. */
function token(): string
{
    return '<input type="hidden" name="token" value="' . e($_SESSION['token']) . '">';
}

/** Refuse a post that did not come from a form of ours, or was too large to be read. */
function check_post(): void
{
    if ($_POST === [] && (int) ($_SERVER['CONTENT_LENGTH'] ?? 0) > 0) {
        throw new Refusal('That is too much text. ' . limit(), 413);
    }
    if (!hash_equals($_SESSION['token'], field('token'))) {
        throw new Refusal('The page was too old, or did not come from here. Open it again.', 403);
    }
}

/** A field of the form as text; what is no text is refused. */
function field(string $name): string
{
    $value = $_POST[$name] ?? '';
    if (!is_string($value) || !mb_check_encoding($value, 'UTF-8')) {
        throw new Refusal('That is not text in UTF-8.', 422);
    }
    return $value;
}

function limit(): string
{
    return 'A chat has at most ' . MAX_CHARACTERS . ' characters.';
}

/** The account that is signed in; anybody else is asked to sign in first. */
function account(string $page): string
{
    if (!isset($_SESSION['account'])) {
        go('PostHome.php?next=' . rawurlencode($page));
    }
    return $_SESSION['account'];
}

/** The table of Figures 12 and 13. */
function table(bool $own, string $page): never
{
    open_session();
    $account = account($page);
    $before = filter_input(INPUT_GET, 'before', FILTER_VALIDATE_INT, ['options' => ['min_range' => 1]]);
    $rows = (new Repository())->messages($account, $own, $before ?: PHP_INT_MAX);
    $html = "<table>\n<caption>" . ($own ? 'Sent by ' : 'For ') . e($account) . "</caption>\n"
        . "<tr><th>USERNAME</th><th>CHAT CONTENT</th></tr>\n";
    foreach ($rows as $row) {
        $html .= '<tr><td>' . e($row['sender']) . '</td><td title="' . e($row['posted']) . ' UTC">'
            . e($row['content']) . "</td></tr>\n";
    }
    $html .= "</table>\n";
    if ($rows === []) {
        $html .= '<p class="quiet">No chats yet.</p>';
    } elseif (count($rows) === PAGE_ROWS) {
        $html .= '<p><a rel="prev" href="' . e($page) . '?before=' . e($rows[0]['id'])
            . '">Older chats</a></p>';
    }
    page('CLIENT-SERVER CHAT ROOM POST RETRIEVE...', $html . footer());
}

// Whatever goes wrong ends as a page that says so; nothing is ever half shown.
set_error_handler(static function (int $level, string $message, string $file, int $line): bool {
    throw new ErrorException($message, 0, $level, $file, $line);
});
set_exception_handler(static function (Throwable $error): void {
    if ($error instanceof Refusal) {
        page('CLIENT-SERVER CHAT ROOM', '<p class="error" role="alert">' . e($error->getMessage())
            . '</p>' . footer(), $error->getCode());
    }
    error_log((string) $error);
    $database = $error instanceof PDOException || $error instanceof Unavailable;
    if ($database) {
        header('Retry-After: 5');
    }
    page(
        'CLIENT-SERVER CHAT ROOM',
        '<p class="error" role="alert">' . ($database
            ? 'The chat repository does not answer. Nothing was stored; try again in a moment.'
            : 'Something went wrong here. Nothing was stored; the server’s log has the details.')
        . '</p><nav><a href="' . e(home()) . '">Home</a></nav>',
        $database ? 503 : 500,
    );
});
